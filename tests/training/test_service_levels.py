import numpy as np

from training.service_levels import promised_waits, service_classes

LEVELS = {1000: 60.0, -10: 600.0}


def test_a_promise_holds_from_its_priority_up_to_the_next():
    priority = np.array([-11, -10, 999, 1000, 10**9])
    assert service_classes(priority, LEVELS).tolist() == [0, 1, 1, 2, 2]
    assert promised_waits(priority, LEVELS).tolist() == [np.inf, 600.0, 600.0, 60.0, 60.0]


def test_nothing_is_promised_where_there_are_no_levels():
    assert promised_waits(np.array([0, 1000]), {}).tolist() == [np.inf, np.inf]
