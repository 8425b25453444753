"""Is this image becoming the concept? One file per evidence; ``steerclear.core.evidence`` has what an evidence promises."""
