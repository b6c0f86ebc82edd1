"""What files of models hold, read without loading them: nothing that such a file says is ever executed."""
