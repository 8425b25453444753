"""What guidance did to the distribution of images: one metric a file; a :class:`~steerclear.core.metric.Metric` in it is a column."""
