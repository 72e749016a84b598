"""Where policies come from: workloads, a simulator of kube-scheduler, learning algorithms, evaluation and export."""

import os

# OpenMP's threads spin while they wait for each other, which beside any other busy process costs torch two thirds of
# its speed (measured on two cores: 820 against 1,740 decisions/s). It is read when torch is imported, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
