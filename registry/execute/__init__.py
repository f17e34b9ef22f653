"""What is due is run: the schedule of a plan, its runners, one resolved task, a Sacred stage."""
