"""How several predictions become one. One file a guidance; see ``base.py`` for what a guidance promises."""
