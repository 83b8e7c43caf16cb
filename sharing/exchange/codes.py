"""Stable codes of the exchange: what a check of a delivery can find, one row per check, in the order they run.

The table of the interface specification is tested to say the same. A code is never reused.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckCode:
    """One thing a receiver may reject a delivery for."""

    code: str
    title_zh: str
    action_zh: str


CHECKS: tuple[CheckCode, ...] = (
    CheckCode(
        "EX-01", "交付目录不完整：缺少数据文件、清单、.ok 或 README.txt", "等待 .ok 出现；仍缺少时要求按原批次重交"
    ),
    CheckCode("EX-02", "目录中有不属于本次交付的文件", "不要入库，通知提供方"),
    CheckCode("EX-03", "文件名不符合命名规则，或与清单内容不一致", "拒收，要求重交"),
    CheckCode("EX-04", ".ok 文件不是零字节", "拒收，要求重交"),
    CheckCode("EX-05", "清单不是合法 JSON，或不符合 manifest.schema.json", "拒收，要求重交"),
    CheckCode("EX-06", "统一社会信用代码校验位错误（GB 32100）", "拒收，核对提供方代码"),
    CheckCode("EX-07", "文件大小或 SM3 与清单不一致", "重新下载；仍不一致则拒收"),
    CheckCode("EX-08", "数据文件无法解压、不是 UTF-8 或列数不齐", "拒收，要求重交"),
    CheckCode("EX-09", "表头与清单所列字段不一致", "拒收，核对接口规范版本"),
    CheckCode("EX-10", "行数与清单不一致", "拒收，要求重交"),
    CheckCode("EX-11", "新增、修改、删除行数与清单不一致，或出现未知的 _op", "拒收，要求重交"),
    CheckCode("EX-12", "主键 _src_pk 为空或重复", "拒收，要求重交"),
    CheckCode("EX-13", "控制总和与清单不一致", "拒收，要求重交"),
    CheckCode("EX-14", "必填字段为空", "整批或部分拒收，回执写明行号"),
    CheckCode("EX-15", "行内 _batch_id 与清单不一致", "拒收，要求重交"),
)
# What only the receiver can know: its own state and its own rules. Never found by looking at the files alone.
RECEIVER_CHECKS: tuple[CheckCode, ...] = (
    CheckCode("EX-16", "增量所依据的批次不在接收方（例如接收方从备份恢复）", "以 held_batch_id 为起点重新交付"),
    CheckCode("EX-17", "已有更晚的批次入库，本批次不再应用", "无须处理：内容已在更晚的批次中"),
    CheckCode("EX-18", "不符合接收方自己的业务规则", "按拒收文件更正后，以下一批次号交付"),
)
BY_CODE = {check.code: check for check in (*CHECKS, *RECEIVER_CHECKS)}
