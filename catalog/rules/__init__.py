"""Row rules as SQL: one compiler for the row split, the quality gate and the documentation.

`compile(rule)` gives a DuckDB predicate over a relation whose columns have the ODS names and types. Raw values of
protected identifiers are read from in-memory columns `raw__<source name>` (`raw__id_no`, `raw__phone`), so a rule with
`needs_raw` can only run during ingestion. The predicate is never NULL: TRUE means the row is fine, FALSE that it is not.

NULL is handled by kind. `not_null` refuses it. Every other kind lets it pass, because whether a value may be missing
is said by `required` (which derives its own `not_null` rule). An expression passes when any of its listed columns is
NULL; otherwise a NULL result counts as not fine, and so does one that cannot be computed (a number beyond its type).
A rule with `when` looks only at rows where `when` is TRUE.

`{as_of}` in an expression is the business instant (`lake.clock.as_of`), so a pinned demo judges "in the future" right.

The YAML files beside this module are something else: the table of law and design thresholds, read by
`catalog.rules_table`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime

from catalog import vocabularies
from catalog.contracts.model import ObjectSpec, RuleSpec
from lake import clock
from lake.errors import TiyuError
from lake.sql import quote_literal, quote_whole

GB11643_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
GB11643_CHECKS = "10X98765432"
GB32100_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
GB32100_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
MAX_AGE_YEARS = 120


@dataclass(frozen=True)
class CompiledRule:
    """A rule ready to run. `references` are the (table, column) pairs that must be registered in the connection. `interval`:
    bounds of a number between which the rule holds, themselves included; None where the rule says more than that."""

    rule_id: str
    predicate: str
    severity: str
    message_zh: str
    columns: list[str]
    kind: str
    needs_raw: bool = False
    references: list[tuple[str, str]] = field(default_factory=list)
    interval: tuple[float, float] | None = None


def normalised(expression: str) -> str:
    """Identifier text as the check digits see it: no blanks around it, upper case, full-width digits made half-width.

    The translation is slow and rarely needed, so text that is plain already is taken as it is.
    """
    full, half = "０１２３４５６７８９ＸｘＡＢＣ", "0123456789XXABC"
    return (
        f"CASE WHEN regexp_full_match({expression}, '[0-9A-Z]*') THEN {expression} "
        f"ELSE translate(upper(trim({expression})), {quote_literal(full)}, {quote_literal(half)}) END"
    )


def _once(name: str, value: str, body: str) -> str:
    """`body` with `name` bound to `value`: DuckDB evaluates the value once, not once per mention (18 times faster)."""
    return f"list_transform([{value}], lambda {name}: {body})[1]"


def check_digit_gb11643(expression: str, as_of: str) -> str:
    """Resident identity number, GB 11643-1999: 18 characters, real birth date, age up to 120, check character.

    The region code is not judged: retired codes stay valid in old numbers. 15-digit numbers are refused.
    """
    digits = len(GB11643_WEIGHTS)
    total = " + ".join(
        f"{weight} * ((n_ // {10 ** (digits - n)}) % 10)" for n, weight in enumerate(GB11643_WEIGHTS, start=1)
    )
    check = f"substr('{GB11643_CHECKS}', 1 + CAST(({total}) % 11 AS INTEGER), 1)"
    today = f"CAST(timezone('Asia/Shanghai', {as_of}) AS DATE)"
    birth = "CAST(try_strptime(substr(v_, 7, 8), '%Y%m%d') AS DATE)"
    age = f"d_ <= {today} AND d_ >= {today} - INTERVAL {MAX_AGE_YEARS} YEAR"
    body = (
        f"regexp_full_match(v_, '[1-9][0-9]{{16}}[0-9X]') AND {_once('d_', birth, age)} "
        f"AND {_once('n_', 'try_cast(substr(v_, 1, 17) AS BIGINT)', check)} = substr(v_, 18, 1)"
    )
    return f"({_once('v_', normalised(expression), body)})"


def check_digit_gb32100(expression: str) -> str:
    """Unified social credit code, GB 32100-2015: 18 characters of the alphabet without I O S V Z, check character."""
    total = " + ".join(
        f"{weight} * (strpos('{GB32100_ALPHABET}', substr(v_, {n}, 1)) - 1)"
        for n, weight in enumerate(GB32100_WEIGHTS, start=1)
    )
    body = (
        f"regexp_full_match(v_, '[{GB32100_ALPHABET}]{{2}}[0-9]{{6}}[{GB32100_ALPHABET}]{{10}}') "
        f"AND substr('{GB32100_ALPHABET}', 1 + CAST((31 - ({total}) % 31) % 31 AS INTEGER), 1) = substr(v_, 18, 1)"
    )
    return f"({_once('v_', normalised(expression), body)})"


def phone(expression: str) -> str:
    """Mobile number `1[3-9]` and nine digits; blanks, hyphens and +86 are not held against it."""
    v = f"regexp_replace({normalised(expression)}, '[ -]', '', 'g')"
    return (
        rf"(regexp_full_match({expression}, '1[3-9][0-9]{{9}}') OR regexp_full_match({v}, '(\+?86)?1[3-9][0-9]{{9}}'))"
    )


def compile(rule: RuleSpec, *, as_of: datetime | None = None) -> CompiledRule:
    """Compile one rule. `as_of` defaults to the business instant of `lake.clock`.

    Raises TiyuError TIYU-CAT-0005 for a kind this compiler does not know.
    """
    instant = (as_of or clock.as_of()).astimezone(UTC)
    moment = f"TIMESTAMPTZ '{instant:%Y-%m-%d %H:%M:%S.%f}+00:00'"
    params = rule.params
    references: list[tuple[str, str]] = []
    column = quote_whole(rule.columns[0])
    nullable = [column]
    match rule.kind:
        case "not_null":
            test, nullable = f"{column} IS NOT NULL", []
        case "range":
            bounds = []
            if (low := params.get("min")) is not None:
                bounds.append(f"{column} {'>' if params.get('min_exclusive') else '>='} {_number(low)}")
            if (high := params.get("max")) is not None:
                bounds.append(f"{column} {'<' if params.get('max_exclusive') else '<='} {_number(high)}")
            test = " AND ".join([*bounds, f"NOT isnan(CAST({column} AS DOUBLE))"])
        case "in_list":
            values = params.get("values") or vocabularies.codes(params["code_list"])
            test = f"{column} IN ({', '.join(quote_literal(v) for v in values)})"
        case "pattern":
            test = f"regexp_matches({column}, {quote_literal(params['pattern'])})"
        case "compare":
            right = quote_whole(rule.columns[1])
            test, nullable = f"{column} {params['op']} {right}", [column, right]
        case "reference":
            target = quote_whole(params.get("target_column") or rule.columns[0])
            table = params["table"]
            references = [(table, params.get("target_column") or rule.columns[0])]
            test = f"{column} IN (SELECT {target} FROM {quote_whole(table)} WHERE {target} IS NOT NULL)"
        case "check_digit":
            gb11643 = params["standard"] == "GB11643"
            test = check_digit_gb11643(column, moment) if gb11643 else check_digit_gb32100(column)
        case "phone":
            test = phone(column)
        case "expression":
            test = f"TRY({params['sql'].replace('{as_of}', moment)})"
            nullable = [quote_whole(c) for c in rule.columns]
        case _:
            raise TiyuError(
                "TIYU-CAT-0005", "不认识的规则种类", "修改契约中的规则", 4, rule_id=rule.rule_id, kind=rule.kind
            )
    predicate = " OR ".join([*(f"{c} IS NULL" for c in nullable), f"coalesce(({test}), FALSE)"])
    if rule.when:
        condition = f"TRY({rule.when.replace('{as_of}', moment)})"
        predicate = f"({condition} IS NOT TRUE) OR {predicate}"
    return CompiledRule(
        rule_id=rule.rule_id,
        predicate=f"({predicate})",
        severity=rule.severity,
        message_zh=rule.message_zh,
        columns=list(rule.columns),
        kind=rule.kind,
        needs_raw=rule.needs_raw,
        references=references,
        interval=_interval(rule),
    )


def _interval(rule: RuleSpec) -> tuple[float, float] | None:
    """Numbers within these bounds pass a rule about a range."""
    params = rule.params
    if rule.kind != "range" or rule.when or params.get("min_exclusive") or params.get("max_exclusive"):
        return None
    low, high = params.get("min"), params.get("max")
    return (-math.inf if low is None else low, math.inf if high is None else high)


def compile_object(obj: ObjectSpec, *, as_of: datetime | None = None, with_raw: bool = True) -> list[CompiledRule]:
    """All rules of a table. `with_raw=False` leaves out those that need raw identifiers (the gate reads ODS only)."""
    return [compile(r, as_of=as_of) for r in obj.rules if with_raw or not r.needs_raw]


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
