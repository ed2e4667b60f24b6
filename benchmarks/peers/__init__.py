"""Other products that keep and search vectors, each behind the same few calls; see `benchmarks.retrieval_vs_peers`.

What a cell's own process imports (`cell`, `crew`, `product`, `processes` and the adapters) runs in the environment of
the product, so it needs no more than numpy, psutil and that product.
"""
