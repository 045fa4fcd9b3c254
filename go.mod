module kruise.io/kruise

go 1.26.0

require kruise.io/kruise/api v0.0.0

replace kruise.io/kruise/api => ./api
