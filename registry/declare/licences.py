"""Terms of data: under which licence it is, and whether it may be passed on.

A licence is named by its identifier of the SPDX licence list (https://spdx.org/licenses/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from registry.declare.settings import Runtime, Settings

NOTICE, NAME = "its notice", "attribution"
SHARE, NON_COMMERCIAL = "the same licence for what is made from it", "no commercial use"

ASKS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("CC0-1.0", "PDDL-1.0", "CC-PDDC", "Unlicense", "0BSD", "MIT-0"), ()),
    **dict.fromkeys(("MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0"), (NOTICE,)),
    **dict.fromkeys(("CDLA-Permissive-1.0", "CDLA-Permissive-2.0"), (NOTICE,)),
    **dict.fromkeys((f"CC-BY-{v}" for v in ("1.0", "2.0", "2.5", "3.0", "4.0")), (NAME,)),
    **dict.fromkeys((f"CC-BY-SA-{v}" for v in ("1.0", "2.0", "2.5", "3.0", "4.0")), (NAME, SHARE)),
    **dict.fromkeys(
        (f"CC-BY-NC-{v}" for v in ("1.0", "2.0", "2.5", "3.0", "4.0")), (NAME, NON_COMMERCIAL)
    ),
    **dict.fromkeys(
        (f"CC-BY-NC-SA-{v}" for v in ("1.0", "2.0", "2.5", "3.0", "4.0")),
        (NAME, NON_COMMERCIAL, SHARE),
    ),
    "ODC-By-1.0": (NAME,),
    "ODbL-1.0": (NAME, SHARE),
    "CDLA-Sharing-1.0": (NOTICE, SHARE),
}
"""The licences that allow redistribution of resized copies, and what each asks for.

Those that forbid what is made from a work (``CC-BY-ND-4.0``) are not among them: pictures are cut
and resized before they are shown.
"""

_BY_LETTERS = {name.casefold(): name for name in ASKS}


@dataclass(frozen=True)
class Terms:
    """What every declared dataset may say of itself, whatever its kind.

    Parameters
    ----------
    licence : str or None
        Of its images or texts, an SPDX identifier as ``CC-BY-4.0``; unset: what the kind is known
        to be under, if anything.
    publish : bool or None
        Whether ``factbook publish`` may pass on its images and texts, whatever the licence says;
        unset: as the licence allows.
    """

    licence: Runtime[str | None] = None
    publish: Runtime[bool | None] = None


NO_TERMS = Terms()
TERMS = Settings(Terms)
"""How they are read; none of them enters a fingerprint."""


@dataclass(frozen=True)
class Permission:
    """Whether the images and texts of a dataset may be passed on, and why.

    Attributes
    ----------
    dataset, licence : str
        Its name, and the identifier of its licence, "" where none is known.
    is_given : bool
        Whether they may.
    reason : str
        In words.
    """

    dataset: str
    licence: str
    is_given: bool
    reason: str


def permission_of(dataset: str, settings: Any, terms: Terms) -> Permission:
    """Return whether the images and texts of a declared dataset may be passed on.

    Parameters
    ----------
    dataset : str
        Its name.
    settings : object
        Of its kind, which may have a ``licence`` that all data of the kind is under.
    terms : Terms
        As declared.
    """
    named = terms.licence or str(getattr(settings, "licence", ""))
    licence = _BY_LETTERS.get(named.casefold(), named)
    if terms.publish is not None:
        reason = f"declared with publish = {str(terms.publish).lower()}"
        return Permission(dataset, licence, terms.publish, reason)
    if licence in ASKS:
        asked = ", ".join(ASKS[licence])
        return Permission(dataset, licence, True, f"asks for {asked}" if asked else "asks nothing")
    if licence:
        return Permission(dataset, licence, False, "not known to allow redistribution")
    return Permission(dataset, "", False, "no licence declared")
