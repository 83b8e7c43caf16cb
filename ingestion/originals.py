"""Values that the lake keeps masked, read again from the archive: for a file whose audience the policy shows them to.

Nothing is stored here. The newest stored row of each person says in which object and record the value was delivered; that
object is decoded in memory, typed and corrected as it was when it came in. A value counts only when its person and its mask
are those that the lake holds, so an object that reads differently today gives no name to the wrong person.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from catalog.contracts import Contract, PropertySpec
from ingestion import archive, corrections, decoders, sources, split
from lake import ledger, query
from lake.errors import EXIT_INTERNAL, TiyuError
from lake.query import scan_sql
from lake.sql import quote_whole
from protection import masking, tokens

SCHEMA = {"token": pl.String, "value": pl.String}


def originals(resource: str, column: str, by: str, persons: Sequence[str]) -> pl.DataFrame:
    """The delivered values of a masked column, by the person's token: ``token``, ``value``, a row for each person found.

    ``column`` is a masked and ``by`` a tokenised column of the source's root table; ``persons`` are tokens as the lake holds
    them. Missing are persons without a checked row, and those whose object is lost, damaged or reads otherwise today.
    Raises TIYU-ING-0001 (no such source), TIYU-ING-0050 (no such columns).
    """
    contract = sources.contract_of(resource)
    value, person = contract.root.by_name.get(column), contract.root.by_name.get(by)
    if value is None or person is None or value.protection != "mask" or person.protection != "token":
        raise TiyuError(
            "TIYU-ING-0050", "契约中没有可读回的遮蔽列与人员标记列", "在 catalog/policy/policy.yaml 的 originals 中写契约里的列", EXIT_INTERNAL,
            resource=resource, column=column, by=by,
        )  # fmt: skip
    where = _places(contract, value, person, persons)
    found = [pl.DataFrame(schema=SCHEMA)]
    objects = {item["sha256"]: item for item in ledger.objects_of(contract.id)}
    as_of = {batch["batch_id"]: batch["as_of_at"] for batch in ledger.batches(contract.id)}
    for (sha256,), wanted in where.group_by("_source_object", maintain_order=True):
        if (entry := objects.get(sha256)) is not None:
            found += _read(contract, value, person, entry, as_of[entry["batch_id"]], wanted)
    return pl.concat(found)


def _places(contract: Contract, value: PropertySpec, person: PropertySpec, persons: Sequence[str]) -> pl.DataFrame:
    """Where the newest checked value of each person came from: token, masked, _source_object, _record_no."""
    version = ledger.checked_version(contract.root.table)
    if version is None or not persons:
        return pl.DataFrame(schema={"token": pl.String, "masked": pl.String, "_source_object": pl.String})
    con = query.connect()
    try:
        con.register("wanted", pl.DataFrame({"token": persons}).unique().to_arrow())
        token, masked = quote_whole(person.name), quote_whole(value.name)
        return con.execute(
            f"SELECT {token} AS token, {masked} AS masked, _source_object, _record_no"
            f" FROM {scan_sql(contract.root.table, version)} SEMI JOIN wanted ON token = {token}"
            f" WHERE {masked} IS NOT NULL QUALIFY row_number() OVER"
            f" (PARTITION BY {token} ORDER BY part_date DESC, _ingested_at DESC, _source_object, _record_no DESC) = 1"
            " ORDER BY _source_object, _record_no"
        ).pl()
    finally:
        con.close()


def _read(
    contract: Contract,
    value: PropertySpec,
    person: PropertySpec,
    entry: dict[str, Any],
    as_of: datetime | None,
    wanted: pl.DataFrame,
) -> Iterator[pl.DataFrame]:
    """The values of the wanted records of one object (`entry` of the ledger), corrected as they were when the batch came in;
    none of an object that cannot be read any more."""
    try:
        plain = [(entry["sha256"], entry["name"], archive.read_object(contract.id, entry["sha256"]))]
    except TiyuError as error:
        if error.code not in archive.DAMAGED:
            raise
        return
    con = query.connect(spill=False)  # raw values: nothing of them may reach a disk
    try:
        for chunk in decoders.decode_many(contract.server, plain, contract):
            delivered = chunk.tables.get(contract.root.table)
            if delivered is None or delivered.num_rows == 0:
                continue
            split.type_rows(con, contract.root, delivered)
            corrections.apply(con, contract.root, as_of)
            yield _same(con, value, person, wanted)
    finally:
        con.close()


def _same(
    con: duckdb.DuckDBPyConnection, value: PropertySpec, person: PropertySpec, wanted: pl.DataFrame
) -> pl.DataFrame:
    """Of the typed rows in `batch` those that are wanted and whose person and mask are the stored ones."""
    rows = con.execute(
        f"SELECT _record_no, {quote_whole(person.raw_name)} AS person, {quote_whole(value.raw_name)} AS value FROM batch"
    ).pl()
    rows = rows.join(wanted, on="_record_no", how="inner")
    made = tokens.tokenise(str(person.identifier_kind), rows["person"])
    hidden = rows.select(masking.masked(str(value.mask), pl.col("value")).alias("hidden"))["hidden"]
    return rows.filter((made == rows["token"]) & (hidden == rows["masked"])).select(SCHEMA.keys())


__all__ = ["originals"]
