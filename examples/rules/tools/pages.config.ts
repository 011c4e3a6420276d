// What a page may say without being edited: `zako build --config site_title=Other`.
import { config } from "zako:config";

export const title = config({ name: "site_title", default: "Pages" });
