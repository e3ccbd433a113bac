/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sdnotify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "common/io.h"
#include "common/macro.h"

#define ENV(...) ((char *const[]){ __VA_ARGS__, NULL })

struct fixture {
	char dir[64], var[128];
	int fd; /* of the manager */
	struct agt_sdnotify n;
	struct err e;
};

static int fixture_make(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (!f)
		return -1;
	strcpy(f->dir, "/tmp/test_sdnotify.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	f->n.fd = -1;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", f->dir);
	snprintf(f->var, sizeof(f->var), "NOTIFY_SOCKET=%s/s", f->dir);
	f->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	*state = f;
	return bind(f->fd, (struct sockaddr *)&a, sizeof(a));
}

static int fixture_drop(void **state)
{
	struct fixture *f = *state;
	char command[128];

	agt_sdnotify_close(&f->n);
	close(f->fd);
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	free(f);
	return system(command);
}

/* The next datagram, "" when there is none. */
static const char *got(struct fixture *f, char out[512])
{
	ssize_t n = recv(f->fd, out, 511, 0);

	out[n > 0 ? n : 0] = '\0';
	return out;
}

static void every_message_is_a_datagram_of_its_own(void **state)
{
	struct fixture *f = *state;
	int64_t before = clock_mono_ns() / 1000, told;
	char text[512];

	assert_int_equal(agt_sdnotify_open(ENV(f->var), &f->n, &f->e), 0);
	agt_sdnotify_ready(&f->n);
	assert_string_equal(got(f, text), "READY=1");
	agt_sdnotify_stopping(&f->n);
	assert_string_equal(got(f, text), "STOPPING=1");
	agt_sdnotify_status(&f->n, "all is well");
	assert_string_equal(got(f, text), "STATUS=all is well");
	agt_sdnotify_reloading(&f->n);
	assert_int_equal(sscanf(got(f, text), "RELOADING=1\nMONOTONIC_USEC=%ld", &told), 1);
	assert_in_range(told, before, clock_mono_ns() / 1000);
}

static void a_status_cannot_say_anything_else(void **state)
{
	struct fixture *f = *state;
	char text[512], much[1000];

	memset(much, 'x', sizeof(much) - 1);
	much[sizeof(much) - 1] = '\0';
	assert_int_equal(agt_sdnotify_open(ENV(f->var), &f->n, &f->e), 0);
	agt_sdnotify_status(&f->n, "a\nREADY=1\033[1m");
	assert_string_equal(got(f, text), "STATUS=a READY=1 [1m");
	agt_sdnotify_status(&f->n, much);
	assert_int_equal(strlen(got(f, text)), AGT_SDNOTIFY_STATUS_MAX + 7);
}

static void the_watchdog_is_fed_twice_as_often_as_asked(void **state)
{
	struct fixture *f = *state;
	char text[512], mine[64], other[64];

	snprintf(mine, sizeof(mine), "WATCHDOG_PID=%d", getpid());
	snprintf(other, sizeof(other), "WATCHDOG_PID=%d", getpid() + 1);
	assert_int_equal(agt_sdnotify_open(ENV(f->var, "WATCHDOG_USEC=3000000", mine), &f->n,
					   &f->e),
			 0);
	assert_int_equal(f->n.watchdog_ns, 1500000000);
	agt_sdnotify_watchdog(&f->n);
	assert_string_equal(got(f, text), "WATCHDOG=1");
	agt_sdnotify_close(&f->n);
	/* One that another process is asked for is none of ours. */
	assert_int_equal(agt_sdnotify_open(ENV(f->var, "WATCHDOG_USEC=3000000", other), &f->n,
					   &f->e),
			 0);
	assert_int_equal(f->n.watchdog_ns, 0);
	agt_sdnotify_watchdog(&f->n);
	assert_string_equal(got(f, text), "");
}

static void nobody_there_is_fine(void **state)
{
	struct fixture *f = *state;
	char path[128];

	assert_int_equal(agt_sdnotify_open(ENV("NOTIFY_SOCKET="), &f->n, &f->e), 0);
	agt_sdnotify_ready(&f->n);
	assert_int_equal(agt_sdnotify_open(NULL, &f->n, &f->e), 0);
	agt_sdnotify_status(&f->n, "x");
	/* Nor must one that has gone hold anything up. */
	assert_int_equal(agt_sdnotify_open(ENV(f->var), &f->n, &f->e), 0);
	snprintf(path, sizeof(path), "%s/s", f->dir);
	unlink(path);
	agt_sdnotify_ready(&f->n);
}

static void a_name_that_is_no_file_is_taken_too(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char text[512], var[128];
	int n;

	close(f->fd);
	f->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	n = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "test_sdnotify.%d", getpid());
	assert_int_equal(bind(f->fd, (struct sockaddr *)&a,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)),
			 0);
	snprintf(var, sizeof(var), "NOTIFY_SOCKET=@%s", a.sun_path + 1);
	assert_int_equal(agt_sdnotify_open(ENV(var), &f->n, &f->e), 0);
	agt_sdnotify_ready(&f->n);
	assert_string_equal(got(f, text), "READY=1");
}

static void nonsense_is_refused(void **state)
{
	struct fixture *f = *state;
	char *const rows[][2] = {
		{ "NOTIFY_SOCKET=relative", NULL },
		{ "NOTIFY_SOCKET=/", NULL },
		{ f->var, "WATCHDOG_USEC=soon" },
		{ f->var, "WATCHDOG_USEC=0" },
		{ f->var, "WATCHDOG_USEC=-1" },
		{ f->var, "WATCHDOG_USEC=99999999999999999999" },
		{ f->var, "WATCHDOG_PID=me" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(agt_sdnotify_open(ENV(rows[i][0], rows[i][1]), &f->n, &f->e),
				 -ERR_USAGE);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_make, fixture_drop)
	const struct CMUnitTest tests[] = {
		T(every_message_is_a_datagram_of_its_own),
		T(a_status_cannot_say_anything_else),
		T(the_watchdog_is_fed_twice_as_often_as_asked),
		T(nobody_there_is_fine),
		T(a_name_that_is_no_file_is_taken_too),
		T(nonsense_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
