"""Is this image becoming the concept? One file an evidence; see ``base.py`` for what an evidence promises."""
