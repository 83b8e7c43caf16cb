// 读取开放数据集 {{dataset}} 的最新版本，核对 SHA-256 后打印前三条。用法：node sample.mjs 数据集页面地址
import { createHash } from "node:crypto";

const base = process.argv[2].replace(/\/$/, "") + "/latest/";
const get = async (name) => {
  const response = await fetch(base + name);
  if (!response.ok) throw new Error(`${name}: HTTP ${response.status}`);
  return Buffer.from(await response.arrayBuffer());
};

const version = JSON.parse(await get("version.json"));
const body = await get("{{dataset}}.json");
if (createHash("sha256").update(body).digest("hex") !== version.files["{{dataset}}.json"].sha256) {
  throw new Error("校验值不一致，请重新下载");
}
const records = JSON.parse(body);
console.log(version.banner, version.title, version.version, `${records.length} 行`);
for (const record of records.slice(0, 3)) console.log(JSON.stringify(record));
