// KEDA's definitions, which the tests of a cluster install: `cargo xtask test` fetches them. Nothing is built of it: `go mod tidy` would leave it out.
module headwater.dev/tools/keda

go 1.26.0

require github.com/kedacore/keda/v2 v2.21.0
