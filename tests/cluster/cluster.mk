# The control plane that the cluster tests run, and these tests. Expects PYTHON and VENV_STAMP from the Makefile.
KUBERNETES ?= 1.36

# A policy that is there already will do; one that is not is trained.
E2E_POLICY := $(or $(STOWAGE_E2E_POLICY),$(wildcard runs/quickstart/policy.onnx),runs/e2e/policy.onnx)

cluster-tools: $(VENV_STAMP) ## Build kube-apiserver, kube-scheduler, etcd, KWOK and Helm (needs Go, minutes the first time)
	@$(PYTHON) tests/cluster/tools/build.py --kubernetes $(KUBERNETES)

e2e: cluster-tools $(E2E_POLICY) ## Place pods by a policy through a real kube-scheduler; install the chart in a real API server
	STOWAGE_KUBERNETES=$(KUBERNETES) STOWAGE_E2E_POLICY=$(E2E_POLICY) $(PYTHON) -m pytest -m cluster tests/cluster tests/chart tests/release

# The supported versions besides the one above, each with a burst of pods and a release of the chart from its
# installation to its end; `make e2e KUBERNETES=1.35` tries everything on one of them.
OTHER_KUBERNETES := 1.34 1.35

e2e-versions: $(E2E_POLICY) ## The same in short on each of the other supported versions of Kubernetes
	@for version in $(OTHER_KUBERNETES); do \
		echo "Kubernetes $$version"; $(MAKE) --no-print-directory cluster-tools KUBERNETES=$$version && \
		STOWAGE_KUBERNETES=$$version STOWAGE_E2E_POLICY=$(E2E_POLICY) $(PYTHON) -m pytest -q -m cluster \
			tests/cluster/test_end_to_end.py::test_a_burst_is_placed_where_the_policy_ranks_first \
			tests/chart/test_release.py || exit; \
	done

# Everything that needs the network happens before the namespace without a way out is entered.
e2e-kind: cluster-tools ## Install the chart in a real kind cluster on a machine that can pull no image (root, Debian)
	@$(PYTHON) tests/cluster/tools/build.py --kind
	@$(PYTHON) -m tests.cluster.kind.prepare
	$(PYTHON) -m tests.cluster.kind.isolation $(PYTHON) -m pytest -m kind tests/cluster/kind

runs/e2e/policy.onnx: | $(VENV_STAMP)
	$(PYTHON) -m training.run experiment=e2e

.PHONY: cluster-tools e2e e2e-versions e2e-kind
