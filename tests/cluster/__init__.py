"""Tests against a real control plane: etcd, kube-apiserver and kube-scheduler as processes, KWOK for the nodes."""
