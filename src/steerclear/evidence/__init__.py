"""Is this image becoming the concept? One file an evidence; see ``steerclear.core.evidence`` for what an evidence promises."""
