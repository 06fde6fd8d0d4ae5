"""From observations to counts and what each step of them rests on."""
