"""What ``zstreampub bench`` measures and how: loads, the check that nothing is lost, delays, a steady beat."""
