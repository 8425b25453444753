"""Networks that a guidance may ask beside the pipeline's own, made from what people have. One kind per file, discovered."""
