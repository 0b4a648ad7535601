# The scripts are what does the work: see scripts/.
.PHONY: quick test

# What to run before each commit.
quick:
	@scripts/test --quick

# Everything, as CI does.
test:
	@scripts/test
