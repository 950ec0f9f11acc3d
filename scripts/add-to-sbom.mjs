/**
 * Adds a package of Debian to the list of parts that npm wrote, which knows only its own.
 *
 *   node scripts/add-to-sbom.mjs FILE NAME VERSION LICENCE QUALIFIERS
 *
 * The qualifiers (`arch=amd64&distro=debian-12`) are what scanners find the security notices of a package by.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { isMain } from './build.mjs';

/** The list (CycloneDX) with one component more. */
export function withDebianPackage(sbom, name, version, licence, qualifiers) {
  const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?${qualifiers}`;
  const licenses = [{ license: { id: licence } }];
  return {
    ...sbom,
    components: [...sbom.components, { 'bom-ref': purl, type: 'library', name, version, purl, licenses }],
  };
}

if (isMain(import.meta.url)) {
  const [file, ...named] = process.argv.slice(2);
  const sbom = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, `${JSON.stringify(withDebianPackage(sbom, ...named), null, 2)}\n`);
}
