"""Chat templates of families whose files often bring none, one file each (see ``engine.template_choice``)."""
