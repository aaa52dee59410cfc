"""The message of a pause of launches: API and launcher show it, to those with a key and to others.

What follows the last failure may be an instance's own text: it is for users with a key alone.
"""

PAUSED = "launches are paused"
LAST_FAILURE = "; the last: "
