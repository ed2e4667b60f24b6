"""The use cases of the retrieval server, by what they are about; `retrieval.engine` joins them."""
