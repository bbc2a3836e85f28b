"""What only keys of the scope ``admin`` may ask for."""
