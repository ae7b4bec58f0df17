/* A library that loads and is no CUDA backend. */
int plugin_no_entry;
int plugin_no_entry = 1;
