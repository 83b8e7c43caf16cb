"""The Chinese README.txt of a delivery: exact commands, exact expected output, no software of ours."""

from __future__ import annotations

from typing import Any

_MODES = {"F": "全量（F）", "I": "增量（I）"}


def render(manifest: dict[str, Any], manifests: dict[str, str]) -> str:
    """README text. Lines beginning with ``$ `` are commands, the following ``> `` lines their exact output.

    Parameters: the manifest and the SM3 of each manifest file by name. A test runs every command.
    """
    first_time = "（首次交付，含全部历史）" if manifest["is_initial"] else ""
    lines = [
        f"{manifest['resource_name']} — 数据交付说明",
        "=" * 40,
        *([f"【{manifest['banner']}】", ""] if manifest["banner"] else []),
        f"提供方：{manifest['provider_name']}　统一社会信用代码：{manifest['provider_uscc']}"
        + ("（演示代码）" if manifest["provider_uscc_is_synthetic"] else ""),
        f"资源代码：{manifest['resource_code']}　业务日期：{manifest['biz_date']}　批次：{manifest['batch']}",
        f"方式：{_MODES[manifest['mode']]}{first_time}",
        f"时间窗口（左闭右开，北京时间）：{manifest['window_start'] or '不限'} 至 {manifest['window_end']}",
        f"行数：{manifest['row_count']}（新增 {manifest['insert_count']}，修改 {manifest['update_count']}，删除 {manifest['delete_count']}）",
        f"数据等级：{manifest['grade']}　个人信息标识：{'、'.join(manifest['sensitivity_tags'])}",
        "",
    ]
    if manifest["row_count"] == 0:
        lines += ["本批次没有数据变化：数据文件只有表头，行数为 0。这是正常交付，不是漏交。", ""]
    lines += [
        "怎样核对（只需 openssl、zcat、wc；在本目录执行；“$ ”后是命令，“> ”后是应有的输出）",
        "",
        "第一步　.ok 文件最后写入；看到它再开始。",
        "",
        "第二步　文件未被改动：",
    ]
    for name, digest in manifests.items():
        lines += [f"$ openssl dgst -sm3 -r {name}", f"> {digest} *{name}"]
    for entry in manifest["files"]:
        lines += [f"$ openssl dgst -sm3 -r {entry['name']}", f"> {entry['sm3']} *{entry['name']}"]
    lines += ["", "第三步　能解压，行数相符（含一行表头）："]
    for entry in manifest["files"]:
        lines += [f"$ zcat {entry['name']} | wc -l", f"> {entry['rows'] + 1}"]
    lines += ["", "第四步　解压后的内容未被改动："]
    for entry in manifest["files"]:
        lines += [f"$ zcat {entry['name']} | openssl dgst -sm3 -r", f"> {entry['sm3_uncompressed']} *stdin"]
    lines += [
        "",
        "格式：CSV，UTF-8（无 BOM），逗号分隔，双引号转义，换行 LF，空值写作 \\N，时间为 ISO 8601 北京时间（+08:00）。",
        "每行以 _op（I 新增 / U 修改 / D 删除）、_src_pk、_src_update_time、_batch_id 开头；D 行只有主键，是墓碑，不是物理删除。",
        "同一批次重复收到时按 _batch_id 忽略；批次按业务日期、批次号的顺序入库，同一主键以后一批次为准。",
        "字段含义、控制总和与窗口见同名 manifest.json；字段表、错误代码、回执格式见《数据交换接口规范》。",
        "",
    ]
    return "\n".join(lines)
