/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stager-receive - the program on the target.  It serves one conversation on its standard
 * input and output; stager starts it by SSH.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "transport/receive/receive.h"

int main(int argc, char **argv)
{
	const struct rcv_opts o = {
		.in_fd = STDIN_FILENO,
		.out_fd = STDOUT_FILENO,
		.version = STAGER_VERSION,
		.confine = true,
	};

	if (argc == 2 && !strcmp(argv[1], "--version")) {
		puts("stager-receive " STAGER_VERSION);
		return RCV_EXIT_OK;
	}
	if (argc != 1) {
		fputs("usage: stager-receive [--version]\n"
		      "serves a stager driver on standard input and output\n",
		      stderr);
		return RCV_EXIT_USAGE;
	}
	if (isatty(STDIN_FILENO) || isatty(STDOUT_FILENO)) {
		fputs("stager-receive: started by stager over SSH, not on a terminal\n", stderr);
		return RCV_EXIT_USAGE;
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	return rcv_serve(&o);
}
