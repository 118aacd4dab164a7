"""The fields of documents: keys of JSONL, columns of a table, or elements of TRECTEXT."""

from __future__ import annotations

from dataclasses import dataclass

from lbr_cli.formats.tables import TableColumns

# the default fields of a corpus in JSONL or tables; of several names, the first that is present is used
IDS = ("_id", "id", "doc_id", "docno", "pid", "docid")
TEXTS = ("text", "contents", "body", "passage", "segment", "content")
TITLE = "title"


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that the user names with `--id-field`, `--text-field` and `--title-field`; None means the default.

    A dotted name is a path. A named id or text has to be present. Candidates in JSONL and documents of TRECTEXT have
    default fields of their own.

    `columns` names the columns of a TSV corpus in order; None means id and text. Columns other than id, title and text
    are skipped, and the last column is the rest of the line, tabs included.
    """

    id_field: str | None = None
    text_field: str | None = None
    title_field: str | None = None
    columns: tuple[str, ...] | None = None

    @property
    def chosen(self) -> list[str]:
        """The options, of those for the id, the text and the title, that the user has set."""
        options = {"--id-field": self.id_field, "--text-field": self.text_field, "--title-field": self.title_field}
        return [option for option, name in options.items() if name is not None]

    @property
    def ids(self) -> tuple[str, ...]:
        return IDS if self.id_field is None else (self.id_field,)

    @property
    def texts(self) -> tuple[str, ...]:
        return TEXTS if self.text_field is None else (self.text_field,)

    @property
    def title(self) -> str:
        return TITLE if self.title_field is None else self.title_field

    @property
    def table_columns(self) -> TableColumns:
        """The columns to read of a table."""
        return TableColumns((self.ids, self.texts), (self.title,))


DEFAULT_FIELDS = Fields()
