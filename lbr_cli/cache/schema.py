"""The tables of the cache file, and how SQLite writes them.

models (id, name)
scores (key, value, model, day)     day: when the row was last used, in days since 1970
memo (key, value, day)              digests of files and specs of engines; day: when the row was written
"""

from __future__ import annotations

APPLICATION_ID = 0x6C627243  # "lbrC"
LAYOUT = 2  # the version of the tables
MEMO = "CREATE TABLE memo (key BLOB PRIMARY KEY, value BLOB NOT NULL, day INTEGER NOT NULL) WITHOUT ROWID"
SCHEMA = (
    "CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE scores (key BLOB PRIMARY KEY, value BLOB NOT NULL, model INTEGER NOT NULL, day INTEGER NOT NULL)"
    " WITHOUT ROWID",
    MEMO,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {LAYOUT}",
)
# layout 1 kept the memo among the scores, under other keys, so none of its rows can be used
FROM_LAYOUT_1 = ("DELETE FROM scores", "DELETE FROM models", MEMO, f"PRAGMA user_version = {LAYOUT}")
MEMO_DAYS = 100
SETTINGS = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA synchronous = NORMAL",  # with WAL, a power cut loses the last scores at most
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -32768",  # in KiB
)
