// Evaluated before every other module: hands the engine's operations to the zako: modules.
// `main.js` takes the handle away again before any script of a user runs.
import { op_zako_log, op_zako_info } from "ext:core/ops";

globalThis.__zakoHost = { log: op_zako_log, info: op_zako_info };
