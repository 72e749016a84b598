"""The ways in: HTTP for kube-scheduler (`http`), gRPC (`rpc`), health (`health`), and what runs them (`run`)."""
