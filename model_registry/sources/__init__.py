"""Where models come from. A source finds files quickly, and checks one thoroughly before it is loaded."""
