"""读取开放数据集 {{dataset}} 的最新版本，核对 SHA-256 后打印前三条。用法：python3 sample.py 数据集页面地址"""

import hashlib
import json
import sys
from urllib.request import urlopen

base = sys.argv[1].rstrip("/") + "/latest/"


def get(name):
    with urlopen(base + name) as response:
        return response.read()


version = json.loads(get("version.json"))
body = get("{{dataset}}.json")
if hashlib.sha256(body).hexdigest() != version["files"]["{{dataset}}.json"]["sha256"]:
    sys.exit("校验值不一致，请重新下载")
records = json.loads(body)
print(version["banner"], version["title"], version["version"], f"{len(records)} 行")
for record in records[:3]:
    print(json.dumps(record, ensure_ascii=False))
