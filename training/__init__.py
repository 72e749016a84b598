"""Where policies come from: workloads, a simulator of kube-scheduler, learning algorithms, evaluation and export."""
