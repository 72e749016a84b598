"""What the extender tells its operators: Prometheus metrics (`metrics`) and the decision log (`decision_log`)."""
