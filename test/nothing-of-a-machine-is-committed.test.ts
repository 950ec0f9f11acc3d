import { describe, expect, it } from 'vitest';
import { projectFiles, readProjectFile } from './support/source-tree.js';

const THIS_FILE = 'test/nothing-of-a-machine-is-committed.test.ts';
const FILES = projectFiles().filter((file) => file !== THIS_FILE);

function filesWith(pattern: RegExp): string[] {
  return FILES.filter((file) => pattern.test(readProjectFile(file)));
}

describe('nothing of a machine or of a person is committed', () => {
  it('package-lock.json names no place to download from', () => {
    const lock = JSON.parse(readProjectFile('package-lock.json')) as {
      packages: Record<string, { resolved?: string }>;
    };
    const resolved = Object.entries(lock.packages).filter(([, entry]) => entry.resolved !== undefined);
    expect(resolved.map(([path]) => path)).toEqual([]);
  });

  it('no file holds a private key', () => {
    expect(filesWith(/-----BEGIN [A-Z ]*PRIVATE KEY-----\s*[A-Za-z0-9+/=]{40}/)).toEqual([]);
    expect(FILES.filter((file) => /\.(key|p12|pfx|jks)$/.test(file))).toEqual([]);
  });

  it('no file holds a certificate, which would expire', () => {
    expect(filesWith(/-----BEGIN CERTIFICATE-----\s*[A-Za-z0-9+/=]{40}/)).toEqual([]);
  });

  it('no file names a directory of the machine it was written on', () => {
    expect(filesWith(/(?<![\w.~*}-])\/(home|Users|root|work|workspace|builds)\/[\w.-]+/)).toEqual([]);
  });

  it('no file names a package registry', () => {
    expect(filesWith(/registry\.(npmjs|yarnpkg|npmmirror)|verdaccio|artifactory|_authToken/i)).toEqual([]);
  });
});
