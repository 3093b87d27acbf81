"""Whether two outputs of a command say the same, though they come from different machines."""

import math
import re

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w.]*\w)")
UNIT_OF_TIME = re.compile(r"^(?: \+ -?[\d.]+)* (?:s|min|h|CPU hours)\b")
HASH = re.compile(r"\b[0-9a-f]{16,40}\b")  # of commits, weights, settings
BASIS = re.compile(
    r" \((?:\d+ by [^,)]*(?:, )?)+\)"
)  # which records an estimate of time is made from
NEAR = 0.15  # relative; accuracies follow from sums of floats, which differ between machines


def same_output(shown: str, given: str) -> bool:
    """Whether the words are the same and the numbers near each other; times may be any."""
    for changing in (HASH, BASIS):
        shown, given = changing.sub("", shown), changing.sub("", given)
    if NUMBER.sub("#", shown) != NUMBER.sub("#", given):
        return False
    for one, other in zip(NUMBER.finditer(shown), NUMBER.finditer(given), strict=True):
        if UNIT_OF_TIME.match(shown[one.end() :]):
            continue
        left, right = (float(match[0].replace(",", "")) for match in (one, other))
        if not math.isclose(left, right, rel_tol=NEAR, abs_tol=0.05):
            return False
    return True
