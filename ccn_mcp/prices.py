"""The prices in force: the packaged table, and over it the person's own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ccn_mcp import data
from ccn_mcp.domain import jcs
from ccn_mcp.domain.cost import PriceTable, parse_table
from ccn_mcp.domain.errors import BadInput
from ccn_mcp.settings import Settings, config_folder

FILE: Final = "prices.json"
BYTES_MAX: Final = 1_048_576


def own_file(chosen: Settings) -> Path:
    """Where a person keeps prices of their own: CCN_PRICES, else `prices.json` in the config folder."""
    return chosen.prices if chosen.prices is not None else config_folder(chosen) / FILE


def table_of(chosen: Settings) -> PriceTable:
    """The prices in force. Read anew at each call, so that a changed file counts at once.

    Raises:
        BadInput: the person's own file cannot be read, or says what no table can; it names the file and the key.
    """
    packaged = parse_table(jcs.decode(data.read(FILE)))
    own = own_file(chosen)
    try:
        with own.open("rb") as file:
            text = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        if chosen.prices is None:
            return packaged
        raise BadInput(f"CCN_PRICES names {own}, which is not there; correct it or unset it") from None
    except OSError as exc:
        raise BadInput(f"the prices in {own} cannot be read ({exc.strerror or exc}); check the file") from exc
    if len(text) > BYTES_MAX:
        raise BadInput(
            f"the prices in {own} are larger than {BYTES_MAX:,} bytes; leave out what you do not use"
        )
    try:
        return parse_table(jcs.decode(text), under=packaged)
    except BadInput as exc:
        raise BadInput(f"the prices in {own} cannot be used: {exc}") from exc
