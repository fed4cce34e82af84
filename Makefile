# Everything a newcomer or CI runs. Each target sets up what it needs.

PLUGINS := $(sort $(wildcard plugins/*))
TEST_PLUGINS := $(PLUGINS) examples/smallest-gate tests/hostile tests/probe tests/hostile-hooks
BUILD_PLUGINS := cargo run --quiet --package russet-plugin-build -- --out target/plugins

# cargo-nextest where it is installed, plain `cargo test` where it is not.
ifneq ($(shell command -v cargo-nextest 2>/dev/null),)
RUN_TESTS := cargo nextest run --workspace --no-fail-fast
DOC_TESTS := cargo test --workspace --doc
else
RUN_TESTS := cargo test --workspace --no-fail-fast
DOC_TESTS := true
endif

.PHONY: demo test bench soak plugins fmt lint setup-demo setup-test fuzz-build

## demo: build everything, then show three devices enrolling against a real server, and keep it running
demo: setup-demo
	@echo "building the bundled plugins (WebAssembly)"
	@$(BUILD_PLUGINS) $(PLUGINS)
	@echo "building russet (about eight minutes the first time on two cores)"
	@cargo build --package russet
	@./target/debug/russet demo --plugins target/plugins

## test: everything that CI runs
test: setup-test fmt lint plugins fuzz-build
	cargo build --workspace --bins --tests
	$(DOC_TESTS)
	$(RUN_TESTS)

## bench: print the figures of tests/bench/README.md
bench: setup-test plugins
	cargo build --release --package russet --package russet-bench
	./target/release/russet-bench $(BENCH_ARGS)

## soak: let everything fail that can, in full, and look for what was lost (SOAK_ARGS="--list" names the scenarios)
soak: setup-test plugins
	cargo build --package russet --package russet-faults
	./target/debug/russet-faults $(SOAK_ARGS)

## plugins: build the bundled plugins and those of the tests to target/plugins
plugins:
	$(BUILD_PLUGINS) $(TEST_PLUGINS)

# Debian's toolchain has neither rustfmt nor clippy; only this setting leaves the two checks out.
ifeq ($(RUSSET_TEST_SKIP_LINT),1)
fmt lint:
	@echo "!!! RUSSET_TEST_SKIP_LINT=1: $@ IS LEFT OUT !!!" >&2
else
fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets -- -D warnings
endif

fuzz-build:
	cargo build --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz

setup-demo:
	@tests/setup/install demo

setup-test:
	@tests/setup/install test
