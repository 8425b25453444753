"""Is this image becoming the concept? One file an evidence; see ``steerclear.belief`` for what an evidence promises."""
