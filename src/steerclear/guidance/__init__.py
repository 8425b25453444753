"""How several predictions become one. One file per guidance; ``steerclear.core.guidance`` has what a guidance promises."""
