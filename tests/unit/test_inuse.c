/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/macro.h"
#include "stager/inuse.h"

struct fixture {
	char path[64];
	uint64_t dev, ino;
	int proc;
	struct stg_inuse *set;
	struct err e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct stat st;
	int fd;

	snprintf(f->path, sizeof(f->path), "/tmp/test_inuse.XXXXXX");
	fd = mkstemp(f->path);
	if (fd < 0 || ftruncate(fd, 8192) < 0 || fstat(fd, &st) < 0)
		return -1;
	close(fd);
	f->dev = (uint64_t)major(st.st_dev) << 32 | minor(st.st_dev);
	f->ino = st.st_ino;
	f->proc = open("/proc", O_RDONLY | O_DIRECTORY);
	*state = f;
	return f->proc < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	stg_inuse_free(f->set);
	close(f->proc);
	unlink(f->path);
	free(f);
	return 0;
}

/* Another process, which has the file open with these flags, or only mapped. */
static pid_t user(const struct fixture *f, int flags, int prot, int map)
{
	int ready[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		int fd = open(f->path, flags);

		if (prot) {
			if (mmap(NULL, 4096, prot, map, fd, 0) == MAP_FAILED)
				_exit(1);
			close(fd);
		}
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void only_what_can_be_changed_is_in_use(void **state)
{
	static const struct {
		int flags, prot, map;
		bool want;
	} rows[] = {
		{ O_RDONLY, 0, 0, false },
		{ O_WRONLY, 0, 0, true },
		{ O_RDWR | O_APPEND, 0, 0, true },
		{ O_RDWR, PROT_READ | PROT_WRITE, MAP_SHARED, true },
		{ O_RDWR, PROT_READ, MAP_SHARED, false },
		{ O_RDONLY, PROT_READ | PROT_WRITE, MAP_PRIVATE, false },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		pid_t pid = user(f, rows[i].flags, rows[i].prot, rows[i].map);

		assert_int_equal(stg_inuse_scan(f->proc, &f->set, &f->e), 0);
		end(pid);
		assert_int_equal(stg_inuse_has(f->set, f->dev, f->ino), rows[i].want);
		assert_false(stg_inuse_has(f->set, f->dev, f->ino + 1000000));
	}
	assert_int_equal(stg_inuse_scan(f->proc, &f->set, &f->e), 0);
	assert_false(stg_inuse_has(f->set, f->dev, f->ino));
}

static void own_files_do_not_count(void **state)
{
	struct fixture *f = *state;
	int fd = open(f->path, O_RDWR);

	assert_int_equal(stg_inuse_scan(f->proc, &f->set, &f->e), 0);
	close(fd);
	assert_false(stg_inuse_has(f->set, f->dev, f->ino));
}

static void each_file_is_told_once(void **state)
{
	struct fixture *f = *state;
	pid_t one = user(f, O_WRONLY, 0, 0), two = user(f, O_RDWR, 0, 0);

	assert_int_equal(stg_inuse_scan(f->proc, &f->set, &f->e), 0);
	assert_true(stg_inuse_tell(f->set, f->dev, f->ino));
	assert_false(stg_inuse_tell(f->set, f->dev, f->ino));
	assert_int_equal(stg_inuse_scan(f->proc, &f->set, &f->e), 0);
	assert_false(stg_inuse_tell(f->set, f->dev, f->ino));
	end(one);
	end(two);
}

static void nothing_is_in_an_unknown_set(void **state)
{
	(void)state;
	assert_false(stg_inuse_has(NULL, 1, 2));
	assert_false(stg_inuse_tell(NULL, 1, 2));
	stg_inuse_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(only_what_can_be_changed_is_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(own_files_do_not_count, setup, teardown),
		cmocka_unit_test_setup_teardown(each_file_is_told_once, setup, teardown),
		cmocka_unit_test(nothing_is_in_an_unknown_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
