"""What a contract may declare about a source's habits: repeated and changed rows, late ones, deletes, layout, mistakes.

Row rules say when a single row is fine (`row_rules`), batch rules when a delivery is (`batch_rules`); what stands here
says what its rows mean to the rows that are stored already.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, model_validator

from catalog.contracts.strict import Strict

RuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.]*$")]


class Dedup(Strict):
    """Which columns tell records apart, and what a repeated key means.

    onSame, a record that says the same again: ``duplicate`` (counted, not stored) or ``keep`` (a fact of its own).
    onChanged, a record that says something else: ``conflict`` (refused: neither may silently win), ``newest`` (it
    replaces the stored row if it is newer: by the column `by`, without one by order of delivery) or ``version`` (both
    are stored).
    """

    key: list[str] = Field(min_length=1)
    on_same: Literal["duplicate", "keep"] = "duplicate"
    on_changed: Literal["conflict", "newest", "version"] = "conflict"
    by: str | None = None

    @model_validator(mode="after")
    def _sense(self) -> Dedup:
        if self.by is not None and self.on_changed != "newest":
            raise ValueError("by says which record is newer; it belongs to onChanged newest")
        if self.on_same == "keep" and self.on_changed == "newest":
            raise ValueError("onSame keep stores every repetition, so onChanged newest has no single row to replace")
        return self


class Late(Strict):
    """How late data may come, in days from the date of the business event to the arrival of the batch (Shanghai dates).

    expectedDays: rows up to that far behind are usual. refuseAfterDays: rows further behind go to quarantine under the
    rule ``{table}.late.refused``; without it they are accepted and shown.
    """

    expected_days: Annotated[int, Field(ge=0)]
    refuse_after_days: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _order(self) -> Late:
        if self.refuse_after_days is not None and self.refuse_after_days < self.expected_days:
            raise ValueError("refuseAfterDays is below expectedDays")
        return self


class Drift(Strict):
    """What happens when an object's layout differs from the contract.

    unknownColumn: ``stop`` refuses the object; ``add`` reads the others, keeps the unknown ones in the archive alone,
    opens an alert and puts them on the list of columns to catalogue (after grading, ``tiyu reread`` brings them);
    ``ignore`` reads the others and says nothing. missingColumn: ``stop`` or ``ignore`` (the column is empty).
    ``refuse`` and ``warn`` are the older words for ``stop`` and ``ignore``.
    """

    unknown_column: Literal["stop", "add", "ignore", "refuse", "warn"] = "stop"
    missing_column: Literal["stop", "ignore", "refuse", "warn"] = "stop"

    @property
    def unknown_may(self) -> bool:
        """Whether an object with columns that the contract does not know is read."""
        return self.unknown_column in ("add", "ignore", "warn")

    @property
    def missing_may(self) -> bool:
        """Whether a column of the contract may be absent from an object."""
        return self.missing_column in ("ignore", "warn")


class Rename(Strict):
    """A source column that bears another name in some objects: ``from`` there, ``to`` (a physicalName) in the contract.

    A row read under the old name must have its business date within validFrom … validTo, both ends included.
    """

    from_name: Annotated[str, Field(alias="from", min_length=1)]
    to: str
    valid_from: date | None = None
    valid_to: date | None = None

    @model_validator(mode="after")
    def _order(self) -> Rename:
        if self.valid_from is None and self.valid_to is None:
            raise ValueError("a rename needs validFrom or validTo")
        if self.valid_from and self.valid_to and self.valid_to < self.valid_from:
            raise ValueError("validTo is before validFrom")
        return self


class Correction(Strict):
    """A known mistake of the source, mended at ingest before any rule: where `where` holds and `column` was delivered
    as ``from`` (null: empty), it is read as ``to``. It ends with `expires`; an expired one stops the catalogue check.
    """

    id: RuleName
    where: str
    column: str
    from_value: Annotated[str | None, Field(alias="from")]
    to: str | None
    reason: Annotated[str, Field(min_length=4)]
    approved_by: Annotated[str, Field(min_length=2)]
    expires: date

    @model_validator(mode="after")
    def _change(self) -> Correction:
        if self.from_value == self.to:
            raise ValueError("the correction changes nothing")
        return self


class Deletes(Strict):
    """How the source says that a record is gone. The row stays, and bears the instant in ``_deleted_at``.

    ``none``: it never does. ``column``: a row says so of itself (`column`: true, or the time of deletion). ``tombstone``:
    objects whose name matches `pattern` list the keys of records that are gone. ``absence``: each object is the whole
    register, and what it no longer lists is gone.
    """

    by: Literal["none", "column", "tombstone", "absence"]
    column: str | None = None
    pattern: str | None = None

    @model_validator(mode="after")
    def _parts(self) -> Deletes:
        if (self.by == "column") != (self.column is not None):
            raise ValueError("column belongs to deletes by column, and only there")
        if (self.by == "tombstone") != (self.pattern is not None):
            raise ValueError("pattern belongs to deletes by tombstone, and only there")
        return self
