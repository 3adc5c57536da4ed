"""How hard the property tests try: ``--hypothesis-profile=campaign --timeout=0`` for the long search."""

from hypothesis import HealthCheck, settings

_ALLOWED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]     # our fixtures hold for all examples

settings.register_profile("usual", max_examples=60, deadline=None, suppress_health_check=_ALLOWED)
settings.register_profile("campaign", max_examples=5_000, deadline=None, suppress_health_check=_ALLOWED)
settings.load_profile("usual")
