"""Every maximum has its name here. Units come last in a name."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# ---- one message ----
CONTENT_BYTES_MAX: Final = 1_048_576
"""UTF-8 bytes of one message. Larger texts belong in a file that the message names."""

TITLE_CHARS_MAX: Final = 200
ID_CHARS_MAX: Final = 200
"""Client session ids, idempotency keys, model names, scopes."""

JSON_DEPTH_MAX: Final = 64
JSON_INT_MAX: Final = 2**53 - 1
"""Integers beyond this are written as strings (RFC 8785 numbers are IEEE doubles)."""

EXCLUDED_FOLDERS_MAX: Final = 1_000
"""Folders that a person can exclude from recording."""

SCOPES_SHOWN_MAX: Final = 1_000
SCOPES_SHOWN_DEFAULT: Final = 50

# ---- writing ----
BATCH_DRAFTS_MAX: Final = 512
"""Entries that one transaction takes at the most."""

WAITING_DRAFTS_MAX: Final = 4_096
"""Appends that may wait for the writer; the next one is refused as busy."""

STORE_WAIT_S_MAX: Final = 15.0
"""How long an append waits for other processes before it is refused as busy."""

GUARD_RETRIES_MAX: Final = 24
"""Rounds of read, decide, append against other writers before giving up."""

WAL_PAGES_MAX: Final = 1_000
"""WAL pages after which the writer checkpoints under the turnstile."""

ERASURES_PER_BATCH_MAX: Final = 100
"""Entries that one transaction erases at the most, so that other writers get their turn."""

# ---- reading ----
PAGE_MESSAGES_MAX: Final = 200
PAGE_MESSAGES_DEFAULT: Final = 50
PAGE_CONVERSATIONS_MAX: Final = 100
SEARCH_CANDIDATES_MAX: Final = 2_000
"""Newest hits that are ranked; older ones are counted as left out."""

RESULT_CHARS_MAX: Final = 40_000
"""Characters of one tool result. Claude Code shows a preview only above 50,000."""

QUERY_CHARS_MAX: Final = 400
LINE_CHARS_MAX: Final = 200
"""Of a message where only its beginning is shown."""

# ---- imports ----
IMPORT_VALUE_BYTES_MAX: Final = 67_108_864
"""One line, or one conversation of an export's array: what an import holds in memory of a file at a time."""

IMPORT_FILES_MAX: Final = 50_000
"""Files that one import looks at."""

IMPORT_BATCH_MAX: Final = 200
IMPORT_BATCH_BYTES_MAX: Final = 4_194_304
"""Messages, and bytes of them, that an import hands to the store at once; then other writers have their turn."""

UNZIPPED_BYTES_MAX: Final = 4_294_967_296
"""What is read of one zip's members, whatever its headers say."""

ZIP_MEMBERS_MAX: Final = 10_000

# ---- Plate ----
PLATE_BYTES_MAX: Final = 262_144
PLATE_TOKENS_MAX: Final = 20_000
BYTES_PER_TOKEN: Final = 3
"""Fewer UTF-8 bytes than a token has in most texts, so that an estimate is rather too high; no tokenizer is public."""

CONTEXT_TOKENS_DEFAULT: Final = 12_000
CONTEXT_TOKENS_MIN: Final = 500
CONTEXT_TOKENS_MAX: Final = 60_000
CONTEXT_TURNS_MAX: Final = 100

# ---- instances and consensus ----
VOTERS_MAX: Final = 1_000
"""Live instances that one evaluation looks at; the most recently seen come first."""

LEASE_S_DEFAULT: Final = 12 * 3600
FRESH_S_DEFAULT: Final = 24 * 3600
LEASE_TOUCH_S: Final = 60
"""A lease is renewed by reads at most this often; writes renew it for nothing."""

REINIT_TRIES_MAX: Final = 3
RATINGS_MAX: Final = 16
"""Ratings that one report is the average of. The noisiest baseline that is pinned asks for four."""

RELATIONAL_METRICS_MAX: Final = 7

# ---- signed heads ----
NOTE_BYTES_MAX: Final = 131_072
"""One signed note. Sixteen post-quantum signatures of 5 kB fit (C2SP signed-note)."""

NOTE_SIGNATURES_MAX: Final = 16
PROOF_BYTES_MAX: Final = NOTE_BYTES_MAX + 65_536
"""One proof in text: its hashes (3 kB at most), extra data and a note."""

KEY_TEXT_BYTES_MAX: Final = 8_192
"""One key in text, public or private."""

ROTATIONS_MAX: Final = 10_000
"""Key changes of one log that a check follows."""

# ---- HTTP ----
HTTP_HOST_DEFAULT: Final = "127.0.0.1"
HTTP_PORT_DEFAULT: Final = 8_765
HTTP_BODY_BYTES_MAX: Final = 8 * 1_048_576
"""One request. JSON may write each byte of a message as six (`\\u0007`)."""

HTTP_CONNECTIONS_MAX: Final = 512
"""Open connections, streams included; a request beyond that is answered 503."""

HTTP_SESSIONS_MAX: Final = 1_000
HTTP_SESSION_IDLE_S_MAX: Final = 1_800
"""After this long without a request or an open stream, a client of the older revisions starts anew."""

HTTP_KEEP_ALIVE_S_MAX: Final = 65
HTTP_DRAIN_S_MAX: Final = 20
"""How long calls may take to finish once the server is told to stop; more than `STORE_WAIT_S_MAX`."""
