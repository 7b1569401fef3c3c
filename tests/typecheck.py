"""The type checker that the tests put round every function of gradcut (see conftest.py)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int where a float is expected
