"""What several feature extractors share."""
