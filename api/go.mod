module kruise.io/kruise/api

go 1.26.0
