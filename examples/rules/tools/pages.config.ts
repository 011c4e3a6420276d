// What a page may say without being edited: `zako build --set site_title=Other`.
import { config } from "zako:config";

export const title = config({ name: "site_title", default: "Pages" });
