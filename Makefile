# The commands of the house. `make help` lists them.

DIR ?= twinpost-data
TARGET ?= $(or $(CARGO_TARGET_DIR),target)
KEY ?= twinpost-keys/update.pem
CARGO ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
# Always these together: cargo chooses the features of what they share by what is built at once, and would build it anew for each selection.
PROGRAMS := -p twinpost -p twinpost-hw-modem -p twinpost-image -p twinpost-rig

.DEFAULT_GOAL := help
.PHONY: help run pair build image test test-fast soak lint docs bench clean need-cargo

help: ## This list
	@echo "Twinpost: mail that stays, on two nodes."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  DIR=folder     where \`make run\` keeps its nodes (now: $(DIR))"

run: build ## Build, then start a pair of nodes here (Ctrl-C stops it, everything is kept)
	@exec $(TARGET)/release/twinpost up --dir "$(DIR)"

pair: image ## Two machines with the image in QEMU, left running to play with (Ctrl-C stops them, disks are kept; needs root)
	@hw-tests/need pair
	@exec $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=CARGO_TARGET_DIR) $(TARGET)/release/twinpost-rig --dir "$(DIR)/machines" pair

build: need-cargo
	@hw-tests/need run
	@test -x $(TARGET)/release/twinpost || echo "Building Twinpost. The first time takes several minutes on two cores."
	$(CARGO) build --release --quiet $(PROGRAMS)

image: need-cargo ## The appliance image, from Debian packages and this repository; says where it is (OUT=folder, KEY=file that signs its update)
	@hw-tests/need image
	$(CARGO) build --release --quiet $(PROGRAMS)
	@CARGO="$(CARGO)" $(TARGET)/release/twinpost-image build --binary $(TARGET)/release/twinpost $(if $(KEY),--key "$(KEY)") $(if $(OUT),--out "$(OUT)")

test: need-cargo ## Everything: lints, unit and property tests, model and simulator of the pair, crash harness, real clients, faults
	@hw-tests/need test
	@hw-tests/run-tests all

test-fast: need-cargo ## The same without the long suites
	@hw-tests/need test
	@hw-tests/run-tests fast

soak: need-cargo ## A million simulated texts, ten million schedules of the pair, 1000 rounds of faults on a real one: nothing lost, never two
	@hw-tests/need test
	TWINPOST_SOAK=$${TWINPOST_SOAK:-1000000} $(CARGO) test --release --quiet -p twinpost-sms --lib -- --nocapture soak
	TWINPOST_SOAK=1 $(CARGO) test --release --quiet -p twinpost-heartbeat --test simulator --test model -- --nocapture --test-threads 1
	$(CARGO) build --release --quiet $(PROGRAMS)
	TWINPOST_SOAK=1 $(CARGO) test --release --quiet -p twinpost-hw-tests --test e2e -- --nocapture pair_rounds
	CARGO="$(CARGO)" hw-tests/images $(TARGET)/release broken
	TWINPOST_SOAK=1 TWINPOST_IMAGE="$(abspath $(TARGET))/image/test" TWINPOST_NEXT="$(abspath $(TARGET))/image/next" \
	  TWINPOST_BROKEN="$(abspath $(TARGET))/image/broken" TWINPOST_BIN="$(abspath $(TARGET))/release/twinpost" $(CARGO) test --release --quiet -p twinpost-rig --test machine

lint: need-cargo ## Format and lints only
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

docs: need-cargo ## Write the pages in docs/ that are made from the code
	TWINPOST_WRITE_DOCS=1 $(CARGO) test --quiet -p twinpost-config --lib
	TWINPOST_WRITE_DOCS=1 $(CARGO) test --quiet -p twinpost-hw-tests --test rfc

bench: need-cargo ## Figures beside Postfix + Dovecot, smsd, gammu-smsd and keepalived in the same run, and of two machines; writes bench-results/
	@hw-tests/need bench
	$(CARGO) build --release --quiet $(PROGRAMS) -p twinpost-hw-tests -p twinpost-smtp -p twinpost-gsm -p twinpost-sms --bins --examples
	hw-tests/bench/run.py
	hw-tests/bench/sms.py
	hw-tests/bench/pair.py
	$(if $(filter 0,$(shell id -u)),,sudo --preserve-env=CARGO_TARGET_DIR CARGO="$(CARGO)") hw-tests/bench/machines.py
	$(TARGET)/release/examples/sms_bench
	$(TARGET)/release/examples/speed

clean: ## Remove what was built (not the node's data)
	rm -rf target bench-results

need-cargo:
	@test -x "$(CARGO)" || { echo "Twinpost is built with Rust 1.95 or later, and this machine has none."; \
	  echo "Install it with rustup (https://rustup.rs), as the user that runs make, and call make again."; exit 1; }
